SELECT s_name, COUNT(*) AS waits
FROM trade.public.supplier, trade.public.line l1, trade.public.purchase, trade.public.nation
WHERE s_key = l1.l_supplier_key AND o_key = l1.l_order_key AND o_status = 'F' AND l1.l_receipt_date > l1.l_commit_date
  AND EXISTS (
    SELECT 1 FROM trade.public.line l2
    WHERE l2.l_order_key = l1.l_order_key AND l2.l_supplier_key <> l1.l_supplier_key)
  AND NOT EXISTS (
    SELECT 1 FROM trade.public.line l3
    WHERE l3.l_order_key = l1.l_order_key AND l3.l_supplier_key <> l1.l_supplier_key
      AND l3.l_receipt_date > l3.l_commit_date)
  AND s_nation_key = n_key AND n_name = 'SAUDI ARABIA'
GROUP BY s_name
ORDER BY waits DESC, s_name LIMIT 100
