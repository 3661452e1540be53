"""Names the data or code change that made a model worse: trains what lies between, and says how sure that is.

The library knows no trainer. `find` gets a function that trains a configuration with a seed and scores it case by case,
and asks for as few trainings as it can; `History` is what may be to blame, `Finding` what came of it.
"""
