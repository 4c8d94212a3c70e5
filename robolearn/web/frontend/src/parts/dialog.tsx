// A question before something is done.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

type Props = { title: string; act: string; danger?: boolean; onAct: () => void; onClose: () => void; children: ComponentChildren };

export function Dialog({ title, act, danger, onAct, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="dialog-title">
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          onAct();
        }}
      >
        <h2 id="dialog-title">{title}</h2>
        {children}
        <div class="row end">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class={danger ? "danger" : "primary"}>
            {act}
          </button>
        </div>
      </form>
    </dialog>
  );
}
