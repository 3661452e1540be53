"""The demo project: Riverbend Clinic, its data and its simulated people."""
