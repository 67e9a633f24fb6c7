"""Networks: built, loaded with weights, placed on a device."""
