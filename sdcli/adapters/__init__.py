"""What alters a network for a while; one file each."""
