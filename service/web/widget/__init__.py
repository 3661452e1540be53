"""The embedded widget's face of the web."""
