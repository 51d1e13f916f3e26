"""What depends on the operating system: processes, signals, memory, clock, and files that appear whole."""
