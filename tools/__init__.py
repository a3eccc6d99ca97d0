"""What developers of Batuta use; nothing here is installed with it."""
