"""What leaves the repository: the site."""
