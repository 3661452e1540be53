"""From settled answers to a judged adapter: a library without database, queue or web."""
