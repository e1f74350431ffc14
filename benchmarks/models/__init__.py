"""Whole models as people export them: public architectures with seeded weights, loaded, compared and bounded (issue 4, point 3)."""
