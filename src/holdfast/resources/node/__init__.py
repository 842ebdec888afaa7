"""The kind `node`: machines whose power is controlled through their BMC."""
