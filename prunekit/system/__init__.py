"""What the machine gives: files, memory, processor, progress; and imports that wait until they are needed."""
