"""What happens in an orchestra, as lines and on a screen."""
