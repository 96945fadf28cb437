-- Orders that were sent back within the last month and whose money has not gone back to the buyer yet.
select orders.id, orders.customer_id, returns.received_at, orders.gross_cents
from orders
join returns on returns.order_id = orders.id
left join refunds on refunds.order_id = orders.id
where returns.received_at > now() - interval '30 days'
  and refunds.id is null
order by returns.received_at;
