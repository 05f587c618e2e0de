"""What maintainers run now and then. Neither the package nor its tests import it."""
