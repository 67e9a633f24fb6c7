"""Pictures of other tools: what their texts say, as fields of a Request, and what could not be taken over."""
