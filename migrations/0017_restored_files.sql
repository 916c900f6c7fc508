-- A person put a sealed copy back in place of an env file. The file is shared by its
-- secrets, so this stands in the system's chain. `version` is a keyed digest.

SET LOCAL ROLE rota_owner;

CREATE FUNCTION rota.order_restored_file(
    store text, file text, backup bigint, version text, reason text, given_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    PERFORM rota.check_person(reason, given_name);
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'env_file.restored', 'secret', NULL, 'rotation', NULL, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name),
        'detail', jsonb_build_object('store', store, 'file', file, 'backup', backup, 'version', version,
            'reason', reason))]);
END
$$;

REVOKE ALL ON FUNCTION rota.order_restored_file(text, text, bigint, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rota.order_restored_file(text, text, bigint, text, text, text) TO rota_operator;
