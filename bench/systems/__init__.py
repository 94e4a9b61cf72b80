"""The systems under load, all behind one interface: started, loaded, counted, emptied, stopped."""
