SELECT s_balance, s_name, n_name, p_key, p_maker, s_address, s_phone
FROM trade.public.part, trade.public.supplier, trade.public.part_supplier, trade.public.nation, trade.public.region
WHERE p_key = ps_part_key AND s_key = ps_supplier_key AND p_size = 15 AND p_type LIKE '%BRASS'
  AND s_nation_key = n_key AND n_region_key = r_key AND r_name = 'EUROPE'
  AND ps_cost = (
    SELECT MIN(ps_cost)
    FROM trade.public.part_supplier, trade.public.supplier, trade.public.nation, trade.public.region
    WHERE p_key = ps_part_key AND s_key = ps_supplier_key AND s_nation_key = n_key
      AND n_region_key = r_key AND r_name = 'EUROPE')
ORDER BY s_balance DESC, n_name, s_name, p_key LIMIT 100
