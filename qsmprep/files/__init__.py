"""Writing files: whole or not at all, locks, and what goes wrong with disks in words."""
