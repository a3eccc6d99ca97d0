// Withdrawing a version of a product.
import { call, withQuery } from "../api";
import type { StoredProduct } from "../records";
import { address } from "../router";
import { Action } from "./actions";

export function WithdrawAction({
  stored,
  isNewest,
  done,
}: {
  stored: StoredProduct;
  isNewest: boolean;
  done: () => void;
}) {
  const path = `/api/sdb${address("products", stored.product, stored.obs_id, "versions", String(stored.version))}`;
  return (
    <Action
      label="Withdraw"
      needs="administer"
      done={done}
      asked={{
        title: `Withdraw version ${stored.version} of ${stored.product} of ${stored.obs_id}`,
        effect: `Its record and bytes are kept, and given to nobody any more.${
          isNewest
            ? " The version before it, if there is one, counts again; what is being made from it stops, and what was made from it becomes stale."
            : " A newer version counts: nothing else changes."
        } It cannot be undone.`,
        withReason: true,
        isDangerous: true,
        run: async (reason) => {
          if (!reason) throw new Error("reason: missing (accepted: 1 to 400 characters)");
          await call("DELETE", withQuery(path, { reason }));
        },
      }}
    />
  );
}
