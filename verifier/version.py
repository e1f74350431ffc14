"""The name and version of the tool, readable without importing anything else."""

NAME = "soundproof"
VERSION = "0.1.0"
