-- Pending → posted, or expired → posted when it cost more.
return {'ended', settle(ask.id, ask.settlement)}
