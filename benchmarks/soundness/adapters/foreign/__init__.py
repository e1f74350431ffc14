"""Scripts that run in the environment of another tool: each is started by its path, and imports that tool and little else."""
