"""Tables and figures of results: they present, and never compute."""
