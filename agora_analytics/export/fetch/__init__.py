"""What an export asks the service: call lists and series slice by slice, then the details of each call."""
