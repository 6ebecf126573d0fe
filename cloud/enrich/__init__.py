"""The function that tells what is offered at the place of a vehicle: scenario 1, in the cloud. The gateway's rules do the same at the edge."""
