"""Files, processes, places and signs: what the operating system and the terminal ask for."""
