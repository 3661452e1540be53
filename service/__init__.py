"""The application: remembers, talks and schedules."""
