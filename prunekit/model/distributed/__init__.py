"""A model dealt out to several processes, or spread over devices."""
