"""What new data, deadlines and stages change: claims, and what they replace."""
