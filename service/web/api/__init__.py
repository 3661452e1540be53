"""The JSON API: one module per aggregate."""
