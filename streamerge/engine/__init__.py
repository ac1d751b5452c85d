"""One pass over all layers: what joins the rules to the bytes."""
