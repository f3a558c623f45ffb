SELECT n_name, SUM(l_price * (1 - l_discount)) AS revenue
FROM trade.public.buyer
  JOIN trade.public.purchase ON b_key = o_buyer_key
  JOIN trade.public.line ON l_order_key = o_key
  JOIN trade.public.supplier ON l_supplier_key = s_key AND b_nation_key = s_nation_key
  JOIN trade.public.nation ON s_nation_key = n_key
  JOIN trade.public.region ON n_region_key = r_key
WHERE r_name = 'ASIA' AND o_date >= TO_DATE('2025-01-01') AND o_date < DATEADD(year, 1, TO_DATE('2025-01-01'))
GROUP BY n_name
ORDER BY revenue DESC
