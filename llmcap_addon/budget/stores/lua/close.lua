-- Pending → expired for all that this process holds, and the end of its lease.
return {'expired', expire(ask.owner, ask.settled)}
