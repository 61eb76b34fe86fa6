"""Why a voltage is what it is: local voltages by element and environment, maps and tables."""
