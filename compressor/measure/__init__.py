"""Quality, latency, memory, size, parity: always of the file that ships, always in a fresh process."""
