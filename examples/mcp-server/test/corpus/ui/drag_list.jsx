import { useState } from 'react'

/** A list whose rows are put in another order with the mouse. */
export function SortableList({ items, onReorder }) {
  const [dragged, setDragged] = useState(null)
  const drop = (target) => {
    const next = items.filter((_, i) => i !== dragged)
    next.splice(target, 0, items[dragged])
    setDragged(null)
    onReorder(next)
  }
  return (
    <ul>
      {items.map((item, i) => (
        <li key={item.id} draggable onDragStart={() => setDragged(i)} onDragOver={(e) => e.preventDefault()} onDrop={() => drop(i)}>
          {item.label}
        </li>
      ))}
    </ul>
  )
}
