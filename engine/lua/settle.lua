-- Strikes out a repair: all partitions know of a basket's last step, unless another one followed.
--@verb settle
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@key due inv:{p}:due zset rw
--@arg request... id(12) changed(H, I7): the step that all partitions know of
--@answer settled integer: 1 where it was the last one

local function settle(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer, ids = begin_answer(#args), {}
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(ids)
  for i = 1, #args do
    local id, epoch, seq = unpack_struct('<c12HI7', args[i])
    local raw = remembered[id]
    local head = raw and string_byte(raw) == KIND.BASKET and decode_head(raw)
    local is_last = not head or head.changed_epoch == epoch and head.changed_seq == seq
    if is_last then
      swept_entries[#swept_entries + 1] = repair_entry(id)
    end
    answer[i + 3] = is_last and 1 or 0
  end
  --@writes
  write_batch()
  return answer
end
