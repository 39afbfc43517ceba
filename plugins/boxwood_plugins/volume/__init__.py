"""Volume drivers: named folders that outlive a container."""
