"""firecrestspawner, which cannot be installed beside this spawner."""
