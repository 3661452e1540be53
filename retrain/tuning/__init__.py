"""The search for better training settings: what may change, who chooses, and what a trial may see."""
