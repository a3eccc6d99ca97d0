"""Reports of a profile: text, HTML page, JSON document, flame graphs."""
