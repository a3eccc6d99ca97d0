"""A profile shown: as text, as a page, as a document for programs."""
