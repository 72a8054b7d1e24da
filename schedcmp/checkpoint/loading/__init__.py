"""From a checkpoint that was found to its pipeline on a device."""
