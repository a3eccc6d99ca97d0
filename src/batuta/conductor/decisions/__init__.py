"""What is decided, from values alone: no database, no network and no clock."""
