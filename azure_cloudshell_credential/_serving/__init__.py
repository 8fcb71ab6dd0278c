"""The HTTP server on loopback that the emulator and the broker share, its messages and the token protocols."""
