"""What learners may have done wrong: ``MISTAKES`` in one module for each notebook, by exercise."""
