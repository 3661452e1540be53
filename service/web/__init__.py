"""Flask: the JSON API, the embedded widget and the console, over one set of typed endpoints."""
