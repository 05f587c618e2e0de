"""Helpers close to the operating system: files, processes, folders of user data, unsafe characters."""
