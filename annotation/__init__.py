"""Asking people, and how far to trust their answers: a library without database, queue or web."""
