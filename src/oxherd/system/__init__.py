"""Every system call on processes, descriptors and child output."""
