-- A reservation in PostgreSQL as well as we can make it.
--
-- The operation id is the reservation's primary key, so one index does for record and idempotency.
-- Deadlines are in a BRIN index, which costs next to nothing and keeps updates of the state HOT.
-- The position's row is locked last, so that its lock lasts as short as it can.
CREATE TABLE stock (
  sku text COLLATE "C",
  location text COLLATE "C",
  slot smallint,
  on_hand bigint NOT NULL,
  held bigint NOT NULL DEFAULT 0,
  allocated bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (sku, location, slot),
  CHECK (held >= 0 AND allocated >= 0 AND held + allocated <= on_hand)
) WITH (fillfactor = 50);

-- state: 0 held, 1 committed, 2 released
CREATE TABLE reservation (
  id uuid PRIMARY KEY,
  sku text COLLATE "C" NOT NULL,
  location text COLLATE "C" NOT NULL,
  slot smallint NOT NULL,
  quantity bigint NOT NULL,
  state smallint NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX reservation_due ON reservation USING brin (expires_at);

-- True where the units are held, also when they were by an earlier call with the same id.
CREATE FUNCTION reserve(
  asked_id uuid, asked_sku text, asked_location text, asked_quantity bigint, ttl interval
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO reservation (id, sku, location, slot, quantity, expires_at)
  VALUES (asked_id, asked_sku, asked_location, 0, asked_quantity, now() + ttl)
  ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN
    RETURN true;
  END IF;
  UPDATE stock SET held = held + asked_quantity
  WHERE sku = asked_sku AND location = asked_location AND slot = 0
    AND on_hand - held - allocated >= asked_quantity;
  IF FOUND THEN
    RETURN true;
  END IF;
  DELETE FROM reservation WHERE id = asked_id;
  RETURN false;
END $$;

-- The same where a position's units are dealt out to several rows, so that callers of one hot
-- position need not wait for one another. It takes a row that nobody has locked; where there is
-- none it waits for one. When the last units go, two calls can wait for one another in a circle: the
-- caller then repeats it.
CREATE FUNCTION reserve_in_slots(
  asked_id uuid, asked_sku text, asked_location text, asked_quantity bigint, ttl interval
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  found_slot smallint;
BEGIN
  SELECT slot INTO found_slot FROM stock
  WHERE sku = asked_sku AND location = asked_location AND on_hand - held - allocated >= asked_quantity
  ORDER BY slot LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    SELECT slot INTO found_slot FROM stock
    WHERE sku = asked_sku AND location = asked_location AND on_hand - held - allocated >= asked_quantity
    ORDER BY slot LIMIT 1 FOR NO KEY UPDATE;
  END IF;
  IF NOT FOUND THEN
    RETURN EXISTS (SELECT FROM reservation WHERE id = asked_id);
  END IF;
  INSERT INTO reservation (id, sku, location, slot, quantity, expires_at)
  VALUES (asked_id, asked_sku, asked_location, found_slot, asked_quantity, now() + ttl)
  ON CONFLICT (id) DO NOTHING;
  IF FOUND THEN
    UPDATE stock SET held = held + asked_quantity
    WHERE sku = asked_sku AND location = asked_location AND slot = found_slot;
  END IF;
  RETURN true;
END $$;

-- Commits or releases a hold; gives the state that the reservation is in afterwards.
CREATE FUNCTION resolve(asked_id uuid, keep boolean) RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
  row reservation;
BEGIN
  UPDATE reservation SET state = CASE WHEN keep THEN 1 ELSE 2 END
  WHERE id = asked_id AND state = 0
  RETURNING * INTO row;
  IF NOT FOUND THEN
    RETURN (SELECT state FROM reservation WHERE id = asked_id);
  END IF;
  UPDATE stock
  SET held = held - row.quantity, allocated = allocated + CASE WHEN keep THEN row.quantity ELSE 0 END
  WHERE sku = row.sku AND location = row.location AND slot = row.slot;
  RETURN row.state;
END $$;

-- Many reservations, each with its own answer, at one location. Rows are locked in order, so that two
-- such calls cannot wait for one another in a circle.
CREATE FUNCTION reserve_many(
  asked_ids uuid[], asked_skus text[], asked_location text, asked_quantities bigint[], ttl interval
) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
  held_ids uuid[];
BEGIN
  PERFORM FROM stock
  WHERE sku = ANY (asked_skus) AND location = asked_location AND slot = 0
  ORDER BY sku FOR NO KEY UPDATE;
  WITH asked AS (
    SELECT asked.*, reservation.id IS NOT NULL AS known
    FROM unnest(asked_ids, asked_skus, asked_quantities) WITH ORDINALITY AS asked (id, sku, quantity, place)
    LEFT JOIN reservation ON reservation.id = asked.id
  ), fresh AS (
    SELECT asked.*, sum(quantity) OVER (PARTITION BY sku ORDER BY place) AS so_far
    FROM asked WHERE NOT known
  ), inserted AS (
    INSERT INTO reservation (id, sku, location, slot, quantity, expires_at)
    SELECT fresh.id, fresh.sku, asked_location, 0, fresh.quantity, now() + ttl
    FROM fresh JOIN stock ON stock.sku = fresh.sku AND stock.location = asked_location AND stock.slot = 0
    WHERE stock.on_hand - stock.held - stock.allocated >= fresh.so_far
    RETURNING reservation.id, reservation.sku, reservation.quantity
  ), taken AS (
    UPDATE stock SET held = held + part.quantity
    FROM (SELECT sku, sum(quantity) AS quantity FROM inserted GROUP BY sku) AS part
    WHERE stock.sku = part.sku AND stock.location = asked_location AND stock.slot = 0
  )
  SELECT array_agg(id) INTO held_ids
  FROM (SELECT id FROM inserted UNION ALL SELECT id FROM asked WHERE known) AS holding;
  RETURN held_ids;
END $$;

-- Many commits and releases of reservations at one location; gives how many changed.
CREATE FUNCTION resolve_many(
  asked_ids uuid[], asked_keeps boolean[], asked_location text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  skus text[];
  freed bigint[];
  kept bigint[];
  changed bigint;
BEGIN
  WITH resolved AS (
    UPDATE reservation SET state = CASE WHEN asked.keep THEN 1 ELSE 2 END
    FROM unnest(asked_ids, asked_keeps) AS asked (id, keep)
    WHERE reservation.id = asked.id AND reservation.state = 0
    RETURNING reservation.sku, reservation.quantity, asked.keep
  ), summed AS (
    SELECT sku, sum(quantity) AS freed, coalesce(sum(quantity) FILTER (WHERE keep), 0) AS kept, count(*) AS rows
    FROM resolved GROUP BY sku ORDER BY sku
  )
  SELECT array_agg(summed.sku), array_agg(summed.freed), array_agg(summed.kept), coalesce(sum(summed.rows), 0)
  INTO skus, freed, kept, changed FROM summed;
  PERFORM FROM stock
  WHERE sku = ANY (skus) AND location = asked_location AND slot = 0 ORDER BY sku FOR NO KEY UPDATE;
  UPDATE stock SET held = stock.held - part.freed, allocated = stock.allocated + part.kept
  FROM unnest(skus, freed, kept) AS part (sku, freed, kept)
  WHERE stock.sku = part.sku AND stock.location = asked_location AND stock.slot = 0;
  RETURN changed;
END $$;
