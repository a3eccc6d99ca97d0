"""What runs in the processes of each system: the three steps, in the form that its manual shows."""
