"""Words of the motor trade that several services share; knows nothing of any service or of the kernel."""
