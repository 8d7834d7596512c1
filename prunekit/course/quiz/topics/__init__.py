"""What each notebook asks at its end, has read off its figures, and says of its numbers."""
